"""Settings of the account: those that econed has one value for."""
