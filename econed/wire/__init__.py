"""The EC2 Query protocol, by Amazon's own model of it, and nothing of OpenNebula.

A request travels `query` (bytes to pairs), `parameters` (pairs to the members of the model); its answer travels
`encoder` (members of the model to XML). `model` is what both go by.
"""
