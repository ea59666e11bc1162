"""Work that the control plane ordered: promised in the journal, done once, reported until the report is stored."""
