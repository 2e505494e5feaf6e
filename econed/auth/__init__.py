"""Authentication: AWS Signature Version 4 and 2 over the raw request, client certificates, and OpenNebula's users."""
