"""Downloads of images from URLs that users give."""
