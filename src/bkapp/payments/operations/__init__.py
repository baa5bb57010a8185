"""Writing about bills and money: verbs on rows, within the transaction of whoever calls them."""
