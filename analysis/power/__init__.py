"""Power logs: one small file a format, all read into a `Trace`, whose windows are integrated to energy."""
