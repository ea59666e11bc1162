"""Who somebody is and what they may do: users, sessions, tokens, grants, and the check that every handler names."""
