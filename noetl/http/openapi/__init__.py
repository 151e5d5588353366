"""The API document (OpenAPI 3.1) and the page that shows it; nothing here is imported before somebody asks for them."""
