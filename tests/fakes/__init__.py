"""One stateful server a vendor, speaking its protocol over loopback HTTP, for tests and by hand."""
