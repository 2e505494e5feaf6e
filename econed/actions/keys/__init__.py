"""Key pairs, which are stored on the OpenNebula user."""
