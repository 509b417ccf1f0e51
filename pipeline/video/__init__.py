"""Video files, image folders and segments -> uint8 pixels of chosen frames, with numpy, decord and PyAV."""
