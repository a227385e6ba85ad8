"""Evidence: runs of the store compared, reported, locked; trained again, and branched off."""
