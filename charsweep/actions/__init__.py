"""One file or folder per word of `action=`."""
