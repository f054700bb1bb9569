"""Who may do what in Redis: one ACL user per service, as data, and the ACL file made of it."""
