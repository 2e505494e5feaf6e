"""The checkout as a whole: imports, names in texts, pages, packages' contents, the suite itself."""
