"""The page of `its app`: a Gradio page over `its.Pipeline` and run directories. Needs the extra `app`."""
