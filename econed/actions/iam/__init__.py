"""IAM: users, and their access keys, which are stored on the OpenNebula user."""
