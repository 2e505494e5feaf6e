"""The pools of oned and their objects. Nothing here imports the cloud that has the pools."""
