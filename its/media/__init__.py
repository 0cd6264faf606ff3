"""Reading and writing of pictures, sounds and videos."""
