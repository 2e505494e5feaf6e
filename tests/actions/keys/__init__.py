"""Key pairs, kept on the OpenNebula user."""
