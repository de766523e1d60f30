# %% [markdown]
# # Dynamics

# %%
print("later")
