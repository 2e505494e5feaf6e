"""End-to-end tests: real clients, a real econed process, and an oned: the sandbox or a real one."""
