"""The specification of econed: the folders mirror those of `econed`, `project` is about the checkout as a whole."""
