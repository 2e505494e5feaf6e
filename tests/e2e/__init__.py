"""End-to-end tests: real clients, a real econed process, and an oned, of the sandbox or a real one."""
