"""What `/install` serves: the installer script and the files that it fetches."""
