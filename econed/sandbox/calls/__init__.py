"""The methods of oned's API, a module per kind of object."""
