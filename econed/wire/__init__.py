"""The protocols of EC2, STS and IAM, according to Amazon's own models of these; independent of OpenNebula.

`signed_request` is a request as received. `query` parses its bytes into pairs, and `parameters` decodes the pairs into
members of the model: for EC2 itself, for STS and IAM, whose protocol is called "query", by `query_parameters`.
`encoder` writes the members of a result as XML, by closures that `compiler` makes of the model. `model` defines the
members for both.
"""
