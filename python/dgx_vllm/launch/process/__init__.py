"""The running server: started, watched, registered, stopped."""
