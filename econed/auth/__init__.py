"""Who is calling: AWS Signature Version 4 and 2 over the raw request, certificates, the OpenNebula users."""
