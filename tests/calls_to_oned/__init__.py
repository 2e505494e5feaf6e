"""How many calls to oned, bytes and steps requests take: counts, never times."""
