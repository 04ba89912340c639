"""What results say: runs read back, two of them compared, one layer explained."""
