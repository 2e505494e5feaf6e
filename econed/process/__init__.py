"""The processes of the daemon: start and stop, supervisor and workers, listening sockets, TLS, systemd, health."""
