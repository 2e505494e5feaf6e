"""OpenNebula's side, without anything of EC2: oned's states, documents, template text, session tokens and calls."""
