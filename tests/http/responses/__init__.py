"""Long responses over real sockets."""
