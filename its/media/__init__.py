"""Pictures, sounds and videos as files."""
