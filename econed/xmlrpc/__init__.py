"""One XML-RPC call to oned: the HTTP client, failover between the oneds of a zone, and the search for their leader."""
