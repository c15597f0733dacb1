"""What EnMAP and DESIS share: products of DLR, an XML that describes images beside it."""
