"""What oned is, and nothing of EC2: its states, documents, template text, session tokens, and its calls."""
