"""Read and write pictures, sounds and videos."""
