"""The EC2 Query protocol, according to Amazon's own model of it; independent of OpenNebula.

`signed_request` is a request as received. `query` parses its bytes into pairs, and `parameters` decodes the pairs into
members of the model. `encoder` writes the members of a result as XML, by closures that `compiler` makes of the model.
`model` defines the members for both.
"""
