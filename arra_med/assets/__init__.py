"""Published weights on machines without internet: what is needed, fetching, carrying, checking.

An asset is one published thing (a hub repository, a few files behind URLs) in one folder of the
asset folder, beside ``asset.json``: where it came from, its licence, and every file's SHA-256.
Loaders look there first, through :func:`asset_path`. Importing this module imports nothing heavy.
"""

from arra_med.assets.folder import (
    asset_path,
    assets_folder,
    default_folder,
    find_asset,
    folder_name,
    offline,
)

__all__ = [
    "asset_path",
    "assets_folder",
    "default_folder",
    "find_asset",
    "folder_name",
    "offline",
]
