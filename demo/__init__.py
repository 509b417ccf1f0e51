"""A small drawn world to try vidclip in, and an encoder that understands it.

`actions`, `world` and `videos` make the videos; `captions`, `stills` and `train` make the encoder.
"""
