"""The methods of oned's API, with a module for each kind of object."""
