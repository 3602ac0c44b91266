"""DataImportCrons: a DataSource on the newest image of a registry."""
