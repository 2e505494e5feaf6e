"""econed behind the real lighttpd, nginx and HAProxy."""
