"""What is handed out, installed as administrators do it: wheel, sdist, Debian package, units, rotation of the log."""
