"""What is put inside a visual tower, so that the frames of a clip see each other."""
