"""Commands: `econe-server` for administrators; the demo, a sandbox server and the reference for developers."""
