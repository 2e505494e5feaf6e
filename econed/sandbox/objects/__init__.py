"""The objects of oned's pools, and the pools; nothing here knows the cloud that holds them."""
