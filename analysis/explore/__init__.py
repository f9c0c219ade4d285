"""Design-space exploration: networks x training options x techniques x devices x batch sizes, priced in columns."""
