"""Reading about bills and money."""
