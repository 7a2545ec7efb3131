"""Several libraries searched as one: a joint state of them stands where `SearchEngine` has the state of one."""
