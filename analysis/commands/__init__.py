"""The commands of `trainwatt`, one a file. What is heavy is imported when a command runs."""
