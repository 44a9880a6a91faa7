from dsrl.testing import RetrieverContract


class TestSqliteSearch(RetrieverContract):
    plugin = "sqlite_search"
    searches = (*RetrieverContract.searches, (["coughing"], "cough"), (["naive"], "odd"))
