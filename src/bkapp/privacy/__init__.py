"""What a person may know of, ask about and do with their data (Luật 91/2025/QH15, NĐ 356/2025/NĐ-CP)."""
